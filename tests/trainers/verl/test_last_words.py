from trainers.verl.launch.last_words import last_words

TASK = """\
\x1b[36m(TaskRunner pid=20060)\x1b[0m Training Progress:  25%|██▌       | 1/4 [00:28<01:26, 28.68s/it]
\x1b[36m(AgentLoopWorkerTQ pid=20573)\x1b[0m ZeroDivisionError: division by zero
Traceback (most recent call last):
  File "/x/main.py", line 59, in main
ray.exceptions.RayTaskError(OrchError): \x1b[36mray::TaskRunner.run()\x1b[39m (pid=20060, ip=10.0.0.2)
  File "/x/trainer.py", line 120, in _update_actor
eval.errors.OrchError: loss of step 3 is not finite
  at: runs/x/attempts/1
"""


def test_the_last_exception_of_the_process_itself_is_the_cause():
    assert last_words(TASK) == "OrchError: loss of step 3 is not finite"


def test_what_an_actor_printed_counts_where_the_process_says_nothing():
    actors = "".join(line for line in TASK.splitlines(keepends=True) if "pid=" in line and "ray::" not in line)
    assert last_words(actors) == "ZeroDivisionError: division by zero"


def test_a_failed_response_is_told_with_the_error_of_the_worker_that_made_it():
    failed = TASK.replace(
        "eval.errors.OrchError: loss of step 3 is not finite", "x.ResponseFailed: responses to 2 prompts"
    )
    assert last_words(failed) == "ResponseFailed: responses to 2 prompts: ZeroDivisionError: division by zero"


def test_a_log_without_an_exception_has_no_last_words():
    assert last_words("") == ""
    assert last_words("Warning: the error rate: 0.3\nsee the docs for Errors: here\n") == ""
