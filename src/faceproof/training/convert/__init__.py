"""Networks into the files that runtimes take, each compared with what it was made from."""
