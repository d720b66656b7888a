"""How contenders are timed side by side, and what is made of the figures."""
