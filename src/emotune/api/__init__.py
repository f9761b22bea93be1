"""The Python interface: the functions of `import emotune`."""
