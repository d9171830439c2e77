"""Many devices and many hosts: meshes, and what processes must agree on."""
