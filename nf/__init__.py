"""The 5G network functions of castcore, one package each."""
