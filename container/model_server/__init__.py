"""Answers inference requests by SageMaker's contract: ``/ping``, ``/invocations`` and ``/execution-parameters``.

Runs beside ``job_toolkit``, in the image and as a plain process: ``python -m job_toolkit serve`` becomes this program.
It uses uvicorn and numpy; torch is loaded only for a model that needs it.
"""
