"""Programs in a small language, compiled into the weights of recurrent networks."""
