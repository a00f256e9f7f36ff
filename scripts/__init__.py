"""What people start from the checkout."""
