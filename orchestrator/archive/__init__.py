"""A runs folder packed, sent, checked, thinned out, graded anew."""
