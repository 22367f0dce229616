"""What the read models must hold, computed in the plainest way from all events; slow, and easy to believe."""
