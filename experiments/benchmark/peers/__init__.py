"""The same decoder, images and chains for this library and for what people use: `--peers`."""
