"""Ways for services to work together, each in its own file: ``from skyloom.patterns.topic import Topic``."""
