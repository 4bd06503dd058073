"""fteng: how similar is my data to what the network saw, and how deep should I fine-tune?"""

__version__ = "0.1.0"
