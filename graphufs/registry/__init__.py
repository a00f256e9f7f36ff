"""The models there are, which of them is champion, and how that came about."""
