"""Which layer sits on which device, and the devices there are."""
