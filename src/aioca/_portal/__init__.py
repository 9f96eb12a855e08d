"""The portal: passes jobs and updates from libca's threads to an event loop of asyncio or trio."""
