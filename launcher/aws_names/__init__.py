"""AWS's names on this machine: whose certificates they have, and the variables by which a program reaches them."""
