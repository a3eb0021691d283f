"""Load tests of the broker with app processes over real sockets; see README.md."""
