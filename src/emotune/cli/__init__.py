"""The command line. Only this package prints and shows progress bars."""
