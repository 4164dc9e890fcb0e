"""One plain function per job; the only place where the stages of the road are chained."""
