"""Jobs submitted, launched, asked about, and put away."""
