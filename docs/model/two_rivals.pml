/*
 * Two rival transactions, four masternodes, one liar: protocol sections 4 and 5, for the model checker Spin.
 *
 * docs/safety.md says what this shows and what it leaves out. docs/model/run builds and runs every variant.
 *
 * T1 and T2 (0 and 1 below) spend one coin, and its owner signed both: each masternode may hear of either, and each
 * is contested, at any time. n = 4, f = 1, q = 3. Masternodes 0, 1 and 2 are honest. The fourth signs everything for
 * anybody at any time: its vote of each kind for each transaction always counts. That it may withhold a vote needs
 * no step: whoever does not get it completes a certificate later, and "later" is always possible.
 *
 * Lock votes are delivered one by one, in any order, at any time or never. Commit and abort votes need no deliveries. No
 * honest vote waits for them; they matter only to whoever collects a finality proof or an abort certificate, and here
 * that is somebody who hears everything at once: "final" means that the votes for it exist.
 *
 * A crash is no step. What was signed is durable before it is sent, so a masternode that is down is one that is
 * slow. FORGET_VOTES is the build in which that is not so.
 *
 * Each step only adds to what was said, so every run is finite and what is broken stays broken. Each is one d_step:
 * it reads and writes whole, as the real replica does between two commits to its disk. Masternodes and transactions
 * are not sorted into equals to save states: nothing hangs on an argument about symmetry.
 *
 * Switches: MONEY_ONLY asks only for what costs money, GOAL=name whether something can come about, LIVE whether every
 * run ends with both transactions decided. The others are planted bugs, told in docs/model/run.
 */

#define HONEST 3
#define OTHER(t) (1 - (t))
#define BIT(i) (1 << (i))
#define COUNT(votes) (((votes) & 1) + (((votes) >> 1) & 1) + (((votes) >> 2) & 1))

#ifdef QUORUM_MINUS_ONE
#define QUORUM 2
#else
#define QUORUM 3
#endif

/* In a LIVE run the liar goes silent for ever at some moment. Whatever it said to help it said before, and a vote it
 * withholds is a step not taken: what must come about, comes about without it. */
#ifdef LIVE
bit silent;
#define LIAR (1 - silent)
#else
#define LIAR 1
#endif
#define IS_QUORUM(votes) (COUNT(votes) + LIAR >= QUORUM)

/* What honest masternodes signed, a bit for each of them. Never taken back: somewhere a copy is under way. */
byte lock_votes[2], commit_votes[2], abort_votes[2];

/* Whose lock votes reached each masternode, and who holds so the certificate; what each one's coin is locked for; how
 * many blocks each applied. */
typedef Box { byte votes[2] }
Box heard[HONEST];
byte holders[2];
#define HOLDS(i, t) (holders[t] & BIT(i))
byte coin[HONEST], applied[HONEST];
#define FREE 0
#define HELD_BY(t) (1 + (t))

/* The chain: what Tendermint agreed on, one verdict to a block. A block with two verdicts is covered: applying it is
 * applying two blocks with nothing between. */
#define ABORT(t) (1 + (t))
#define COMMIT(t) (3 + (t))
byte chain[3], height;
#define AMONG(n, verdict) (((n) > 0 && chain[0] == (verdict)) || ((n) > 1 && chain[1] == (verdict)) \
	|| ((n) > 2 && chain[2] == (verdict)))
#define DECIDED(verdict) AMONG(height, verdict)
#define APPLIED(i, verdict) AMONG(applied[i], verdict)
#define OVER(t) (DECIDED(ABORT(t)) || DECIDED(COMMIT(t)) || DECIDED(COMMIT(OTHER(t))))
#define OVER_AT(i, t) (APPLIED(i, ABORT(t)) || APPLIED(i, COMMIT(t)) || APPLIED(i, COMMIT(OTHER(t))))

#define LOCK_CERTIFICATE(t) (IS_QUORUM(lock_votes[t]) || holders[t])
#define ABORT_CERTIFICATE(t) IS_QUORUM(abort_votes[t])
#define FINALITY_PROOF(t) IS_QUORUM(commit_votes[t])

#ifdef ONE_ROUND
#define FINAL(t) (LOCK_CERTIFICATE(t) || DECIDED(COMMIT(t)))
#else
#define FINAL(t) (FINALITY_PROOF(t) || DECIDED(COMMIT(t)))
#endif

#ifdef FORGET_VOTES
byte forgetful;
#define REMEMBERS(i, votes) ((votes) & BIT(i) & ~forgetful)
#else
#define REMEMBERS(i, votes) ((votes) & BIT(i))
#endif

/* Goals: what has to be able to come about, or the promises would hold of a protocol that does nothing. */
#define FINAL_BY_VOTES FINALITY_PROOF(0)
#define FINAL_DESPITE_ABORT_VOTE (FINALITY_PROOF(0) && abort_votes[0])
#define FINAL_BESIDE_RIVAL_LOCK (FINALITY_PROOF(0) && lock_votes[1])
#define BOTH_ABORTED (DECIDED(ABORT(0)) && DECIDED(ABORT(1)))
#define BOTH_CERTIFICATES (LOCK_CERTIFICATE(0) && ABORT_CERTIFICATE(0) && !OVER(0))
#define COMMIT_PICKED (DECIDED(COMMIT(0)) && ABORT_CERTIFICATE(0))
#define ABORT_PICKED (DECIDED(ABORT(0)) && commit_votes[0])
#define FREED_AND_SPENT (DECIDED(ABORT(0)) && (lock_votes[0] & lock_votes[1]) && FINALITY_PROOF(1))
#define TWO_LOCK_CERTIFICATES (LOCK_CERTIFICATE(0) && LOCK_CERTIFICATE(1))

/* The promises, asked after every step; docs/model/run quotes the remark behind the one that broke. */
#define FINAL_AND_ABORTED(t) (FINAL(t) && DECIDED(ABORT(t)))
inline check() {
	assert(!(FINAL(0) && FINAL(1))); /* two rivals are final */
	assert(!FINAL_AND_ABORTED(0) && !FINAL_AND_ABORTED(1)); /* a final transaction is aborted */
#ifdef GOAL
	assert(!(GOAL)) /* it came about */
#endif
}

/* Lock: the coin is free here, and no block applied here has ended the transaction. Whether one locks what one voted to
 * abort is no matter of safety: here one may. Our code does not, and STRICT shows that this leaves nothing undecided. */
#ifdef STRICT
#define FORBIDS_LOCK(i, t) REMEMBERS(i, abort_votes[t])
#else
#define FORBIDS_LOCK(i, t) false
#endif
#define MAY_LOCK(i, t) (coin[i] == FREE && !REMEMBERS(i, lock_votes[t]) && !FORBIDS_LOCK(i, t) && !OVER_AT(i, t))
inline lock(i, t) {
	printf("masternode %d lock-votes T%d\n", i, t + 1);
#ifndef MONEY_ONLY
	assert(!(lock_votes[OTHER(t)] & BIT(i)) || APPLIED(i, ABORT(OTHER(t)))); /* an honest masternode locked for both */
#endif
	lock_votes[t] = lock_votes[t] | BIT(i);
	coin[i] = HELD_BY(t);
	hear(i, i, t)
}

/* The lock vote of masternode s reaches masternode i. More votes than a certificate needs change nothing. */
#define MAY_HEAR(i, s, t) ((lock_votes[t] & BIT(s)) && !(heard[i].votes[t] & BIT(s)) && !HOLDS(i, t) && !OVER_AT(i, t))
inline hear(i, s, t) {
	if
	:: i != s -> printf("masternode %d hears the lock vote of masternode %d for T%d\n", i, s, t + 1)
	:: else
	fi;
	heard[i].votes[t] = heard[i].votes[t] | BIT(s);
	if
	:: HOLDS(i, t) || IS_QUORUM(heard[i].votes[t]) -> holders[t] = holders[t] | BIT(i); heard[i].votes[t] = 0
	:: else
	fi;
	check()
}

#ifdef LIVE
/* A certificate that one honest masternode holds is handed on to all, whatever its signers do then. In other runs this
 * is the same as hearing the votes in it. */
#define MAY_FETCH(i, t) (holders[t] && !HOLDS(i, t) && !OVER_AT(i, t))
inline fetch(i, t) {
	printf("masternode %d is handed the lock certificate of T%d\n", i, t + 1);
	holders[t] = holders[t] | BIT(i);
	heard[i].votes[t] = 0
}
#endif

/* Commit: the lock certificate is held, and there is no own abort vote. The own coin may be locked for the rival. */
#ifdef COMMIT_AFTER_ABORT
#define FORBIDS_COMMIT(i, t) false
#else
#define FORBIDS_COMMIT(i, t) REMEMBERS(i, abort_votes[t])
#endif
#define MAY_COMMIT(i, t) (HOLDS(i, t) && !(commit_votes[t] & BIT(i)) && !FORBIDS_COMMIT(i, t) && !OVER_AT(i, t))
inline commit(i, t) {
	printf("masternode %d commit-votes T%d\n", i, t + 1);
	commit_votes[t] = commit_votes[t] | BIT(i);
	check()
}

/* Abort: contested, and the delay is over, which may be at any time; no lock certificate held, no commit vote cast. */
#if defined(ABORT_AFTER_COMMIT)
#define FORBIDS_ABORT(i, t) false
#elif defined(LOCK_FORBIDS_ABORT)
#define FORBIDS_ABORT(i, t) (HOLDS(i, t) || REMEMBERS(i, commit_votes[t]) || REMEMBERS(i, lock_votes[t]))
#else
#define FORBIDS_ABORT(i, t) (HOLDS(i, t) || REMEMBERS(i, commit_votes[t]))
#endif
#define MAY_ABORT(i, t) (!(abort_votes[t] & BIT(i)) && !FORBIDS_ABORT(i, t) && !OVER_AT(i, t))
inline abort(i, t) {
	printf("masternode %d abort-votes T%d\n", i, t + 1);
	abort_votes[t] = abort_votes[t] | BIT(i);
	check()
}

/* What it knew of a transaction that is over is never asked again: without it there are far fewer states. */
inline forget(i, t) {
	if
	:: OVER_AT(i, t) -> holders[t] = holders[t] & ~BIT(i); heard[i].votes[t] = 0
	:: else
	fi
}

/* The next block. An abort frees the coin that was locked for it; a commit spends it, for whomever it was locked. */
#define MAY_APPLY(i) (applied[i] < height)
inline apply(i) {
	printf("masternode %d applies block %d\n", i, applied[i] + 1);
	if
	:: chain[applied[i]] == ABORT(0) && coin[i] == HELD_BY(0) -> coin[i] = FREE
	:: chain[applied[i]] == ABORT(1) && coin[i] == HELD_BY(1) -> coin[i] = FREE
	:: chain[applied[i]] == COMMIT(0) -> coin[i] = HELD_BY(0)
	:: chain[applied[i]] == COMMIT(1) -> coin[i] = HELD_BY(1)
	:: else
	fi;
	applied[i] = applied[i] + 1;
	forget(i, 0);
	forget(i, 1);
	check()
}

active [HONEST] proctype masternode() {
	end: do
	:: d_step { MAY_LOCK(_pid, 0) -> lock(_pid, 0) }
	:: d_step { MAY_LOCK(_pid, 1) -> lock(_pid, 1) }
	:: d_step { MAY_HEAR(_pid, 0, 0) -> hear(_pid, 0, 0) }
	:: d_step { MAY_HEAR(_pid, 1, 0) -> hear(_pid, 1, 0) }
	:: d_step { MAY_HEAR(_pid, 2, 0) -> hear(_pid, 2, 0) }
	:: d_step { MAY_HEAR(_pid, 0, 1) -> hear(_pid, 0, 1) }
	:: d_step { MAY_HEAR(_pid, 1, 1) -> hear(_pid, 1, 1) }
	:: d_step { MAY_HEAR(_pid, 2, 1) -> hear(_pid, 2, 1) }
#ifdef LIVE
	:: d_step { MAY_FETCH(_pid, 0) -> fetch(_pid, 0) }
	:: d_step { MAY_FETCH(_pid, 1) -> fetch(_pid, 1) }
#endif
	:: d_step { MAY_COMMIT(_pid, 0) -> commit(_pid, 0) }
	:: d_step { MAY_COMMIT(_pid, 1) -> commit(_pid, 1) }
	:: d_step { MAY_ABORT(_pid, 0) -> abort(_pid, 0) }
	:: d_step { MAY_ABORT(_pid, 1) -> abort(_pid, 1) }
	:: d_step { MAY_APPLY(_pid) -> apply(_pid) }
#ifdef RELEASE_ON_TIMEOUT
	:: d_step { coin[_pid] != FREE && !OVER_AT(_pid, coin[_pid] - 1) ->
		printf("masternode %d frees its coin because time went by\n", _pid);
		coin[_pid] = FREE }
#endif
#ifdef ACT_ON_CERTIFICATE
	:: d_step { coin[_pid] != FREE && ABORT_CERTIFICATE(coin[_pid] - 1) && !OVER_AT(_pid, coin[_pid] - 1) ->
		printf("masternode %d frees its coin on the abort certificate alone\n", _pid);
		coin[_pid] = FREE }
#endif
#ifdef FORGET_VOTES
	:: d_step { !(forgetful & BIT(_pid)) ->
		printf("masternode %d restarts and has forgotten what it signed\n", _pid);
		forgetful = forgetful | BIT(_pid);
		holders[0] = holders[0] & ~BIT(_pid);
		holders[1] = holders[1] & ~BIT(_pid);
		heard[_pid].votes[0] = 0;
		heard[_pid].votes[1] = 0;
		coin[_pid] = FREE }
#endif
	od
}

/* Blocks: any verdict whose certificate exists anywhere, one for each transaction, ever. */
#ifdef TWO_VERDICTS
#define IS_OPEN(t, verdict) (height < 3 && !DECIDED(verdict))
#else
#define IS_OPEN(t, verdict) (!OVER(t))
#endif
#ifdef NO_COMMIT_VERDICT
#define MAY_DECIDE_COMMIT(t) (FINALITY_PROOF(t) && IS_OPEN(t, COMMIT(t)))
#else
#define MAY_DECIDE_COMMIT(t) ((LOCK_CERTIFICATE(t) || FINALITY_PROOF(t)) && IS_OPEN(t, COMMIT(t)))
#endif
#define MAY_DECIDE_ABORT(t) (ABORT_CERTIFICATE(t) && IS_OPEN(t, ABORT(t)))
inline decide(verdict) {
	chain[height] = verdict;
	height = height + 1;
	check()
}

active proctype blocks() {
	end: do
	:: d_step { MAY_DECIDE_ABORT(0) -> printf("block %d aborts T1\n", height + 1); decide(ABORT(0)) }
	:: d_step { MAY_DECIDE_ABORT(1) -> printf("block %d aborts T2\n", height + 1); decide(ABORT(1)) }
	:: d_step { MAY_DECIDE_COMMIT(0) -> printf("block %d commits T1\n", height + 1); decide(COMMIT(0)) }
	:: d_step { MAY_DECIDE_COMMIT(1) -> printf("block %d commits T2\n", height + 1); decide(COMMIT(1)) }
	od
}

#ifdef LIVE
active proctype liar() {
	end: d_step { printf("the liar goes silent\n"); silent = 1 }
}

/* When nobody can do anything any more, everything that was sent has arrived. */
active proctype patience() {
	end: timeout;
	assert(OVER(0) && OVER(1)); /* a transaction stays undecided */
	assert(!(DECIDED(ABORT(0)) && DECIDED(ABORT(1))) || !(coin[0] || coin[1] || coin[2])) /* a coin stays locked */
}
#endif
