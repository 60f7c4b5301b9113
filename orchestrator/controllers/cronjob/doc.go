// Package cronjob starts the Jobs of batch/v1 CronJobs as
// https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ describes them.
//
// A Job's name is the CronJob's and the minute it was due, so that no two controllers start one time twice; nothing is
// started more often than once a minute, whatever "@every 1s" says. Of times that were missed, while the control plane was
// down or because the clock was set forward, only the newest is made up for, and only within startingDeadlineSeconds where
// that is set; more than 100 are told in the event TooManyMissedTimes. A clock that is set back by less than an hour starts
// nothing that it started before; one that is set back further is believed, for otherwise a clock that once was years ahead
// would stop a CronJob for years.
package cronjob
