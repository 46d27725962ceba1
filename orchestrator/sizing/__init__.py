"""What a trial needs of its devices, bytes and seconds, and how it is cut to fit them."""
