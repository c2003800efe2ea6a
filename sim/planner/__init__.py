"""Which fleet to buy: searches machine types, pool sizes and roles by bounds and simulation."""
