"""A look-alike of the interface of Google's package weatherbench2, which is not installed where the tests run.

Written from the formulas, not from its code, in plain xarray; `test_official.py` holds it to the recorded scores of the
real package.
"""
