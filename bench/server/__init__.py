"""What the server is worth: beside the peers, beside itself without a neighbour, beside a bare torch."""
