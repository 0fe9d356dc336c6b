"""One module a verb, and what they share. The only place that builds and wires everything."""
