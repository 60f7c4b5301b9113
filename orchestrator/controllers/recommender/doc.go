// Package recommender says in the status of a Recommendation what the containers of its workload really use, and what they
// should request: the 95th percentile of CPU, and of memory's peaks and of what containers had when they were killed for
// want of it, newer ones counting more (half as much a day later), and 15 % above. It changes nothing else.
//
// Each workload is looked at once a minute, and only those that a Recommendation names: without one, no node is asked.
// The status is written when a suggestion moves by a tenth, and once an hour with what was gathered, from which the next
// leader goes on.
package recommender
