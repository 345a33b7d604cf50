"""What runs inside the container, copied there as it is: standard library, IPython and pyzmq only."""
