"""Tasks: what is done with a backbone. One file each; a task never knows a family."""
