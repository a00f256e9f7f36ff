"""What the documentation site has beside the files in docs/: pages made of the code, and links out of the folder."""
