// Package queues shares a cluster between teams: quotas, borrowing and fair shares. It is pure.
//
// The types to know: Book holds the queues and what each uses; Admit says whether a Want may go on; Next whose turn it is;
// Reclaimable which pods of borrowers may be ended for a queue that wants its own back.
//
// A queue's Nominal quota is its own. What queues of a cohort don't use the others may borrow, up to their Limit. So at any
// time no queue uses more than Nominal+Limit, and no cohort more than its queues' Nominal together.
//
// Nobody starves: who has waited for quota longer than Patience, and could ever have it, is waited for. Nobody after it in its
// own queue, and nobody of its cohort who would borrow, goes on before it does.
//
// A Book belongs to one goroutine. Nothing in this package locks.
package queues
