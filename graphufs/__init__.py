"""Train and score a GraphCast-like emulator of NOAA's UFS Replay."""
