"""Reports side by side in the layout of the paper's tables, and the runs that fill them."""
