"""The experiment: a module for each section of its file, and how it is loaded."""
