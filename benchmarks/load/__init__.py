"""What servers are sent, and what sends it: wrk, an open loop, open streams."""
