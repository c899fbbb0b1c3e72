"""The service: a web page, a REST API and a queue, from one process on a laptop to many machines.

``site.Site`` holds what every part shares; ``running.run_job`` is the only way the service scans.
"""
