"""What an AWS account or this machine holds and needs: checks, and what is deleted again."""
