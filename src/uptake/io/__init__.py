"""Files in and out: the only room that opens image files. Importing it loads no file format library."""
