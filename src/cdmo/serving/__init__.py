"""What a process tells about itself over HTTP: /livez, /readyz and /metrics.

server.py takes connections, pages.py says what is answered, access.py who may see it.
"""
