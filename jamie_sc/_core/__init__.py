"""The only place that knows how MuData stores things: read, name, write. No torch."""
