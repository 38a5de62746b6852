"""The enforcement point (PEP): what an agent asks before it acts, in asyncio and in plain blocking form."""
