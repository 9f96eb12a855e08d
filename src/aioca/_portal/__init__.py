"""From the threads of libca into an event loop of asyncio or trio."""
