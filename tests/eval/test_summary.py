from eval.api import Completion, Grade, Problem, SamplingSettings, Score
from eval.samples import Sample
from eval.stats import avg_at_k
from eval.summary import ends_in_loop, majority_is_right, summarise


def sample(index, answer, is_correct, problem="p-0", tokens=10, text="", status="ok"):
    return Sample(
        key="k" * 24,
        completion=Completion(problem_id=problem, index=index, text=text, num_tokens=tokens, finish_reason="stop"),
        grade=Grade(
            is_correct=is_correct, answer=answer, method="exact", status=status, elapsed_ms=0.0, grader_version="g"
        ),
        engine="fake",
    )


def test_the_majority_counts_equal_answers_as_one_class():
    assert majority_is_right([sample(0, "1/2", True), sample(1, "0.5", True), sample(2, "3", False)])
    assert not majority_is_right([sample(0, "7", True), sample(1, r"\frac{6}{2}", False), sample(2, "3", False)])
    assert not majority_is_right([sample(0, None, False), sample(1, None, False)])


def test_a_tie_goes_to_the_earliest_answer():
    assert majority_is_right([sample(0, "7", True), sample(1, "3", False)])
    assert not majority_is_right([sample(0, "3", False), sample(1, "7", True)])


def test_completions_without_an_answer_do_not_vote():
    assert majority_is_right([sample(0, None, False), sample(1, None, False), sample(2, "7", True)])


def test_a_loop_is_four_repeats_at_the_end():
    assert ends_in_loop("first " + "and again, " * 5)
    assert ends_in_loop("0" * 50)
    assert not ends_in_loop("0" * 30)
    assert not ends_in_loop("and again, " * 5 + "then it stopped, with some more words after it.")
    assert not ends_in_loop("")
    assert not ends_in_loop("The quick brown fox jumps over the lazy dog, and the dog does not mind it at all.")


def test_a_summary_is_over_the_samples_of_its_score():
    drawn = [
        sample(0, "1", True, tokens=4),
        sample(1, "2", False, tokens=8, text="la " * 40),
        sample(0, "9", False, "p-1", tokens=6, status="timeout"),
        sample(1, "9", False, "p-1", tokens=10),
        sample(2, "1", True, "p-1", tokens=99),  # beyond K
        sample(0, "1", True, "other", tokens=99),
    ]
    per_problem = {"p-0": (1, 0), "p-1": (0, 0)}
    average = avg_at_k(per_problem)
    score = Score(
        benchmark="b",
        benchmark_digest="d",
        num_problems=2,
        num_samples=2,
        avg=average.mean,
        standard_error=average.standard_error,
        generation_error=average.generation_error,
        clip_rate=0.0,
        no_box_rate=0.0,
        mean_tokens=7.0,
        per_problem=per_problem,
        settings=SamplingSettings(num_samples=2, temperature=1.0, max_new_tokens=9, template="chat"),
        grader_version="g",
        engine="fake",
        elapsed_s=1.0,
    )
    problems = [Problem(id=f"p-{n}", question="?", answer="1", kind="integer") for n in range(3)]
    found = summarise(score, drawn, problems)
    assert found.pass_at == {1: 0.25, 2: 0.5}
    assert found.majority == 0.5
    assert (found.mean_tokens_right, found.mean_tokens_wrong) == (4.0, 8.0)
    assert (found.loop_rate, found.timeout_rate) == (0.25, 0.25)
