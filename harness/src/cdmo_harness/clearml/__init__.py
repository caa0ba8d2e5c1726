"""Pods made by the real ClearML agent, without a ClearML server.

    agent = ClearmlAgent.ready(cache, environment=os.environ)
    glue = ClearmlGlue(agent, read_queues(values_file), kubeconfig=..., namespace="clearml")
    pod = glue.submit(Submission(queue="slice-2", task_id="5d41402abc4b2a76"))

ClearML's Kubernetes agent ("the glue") polls a server for tasks and makes a pod for each with `kubectl apply`.
Here its own code makes the pod; only the server that would hand it the task is left out.
"""
