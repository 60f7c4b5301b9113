package tokencleaner

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

func TestDecideWhichTokensHaveExpired(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		kind       corev1.SecretType
		expiration string
		expired    bool
		again      time.Duration
	}{
		"in an hour":           {secretType, "2026-01-02T04:04:05Z", false, time.Hour},
		"in another time zone": {secretType, "2026-01-02T05:04:05+01:00", false, time.Hour},
		"now":                  {secretType, "2026-01-02T03:04:05Z", true, 0},
		"a year ago":           {secretType, "2025-01-02T03:04:05Z", true, 0},
		"never":                {secretType, "", false, 0},
		"no time":              {secretType, "tomorrow", true, 0},
		"no token":             {corev1.SecretTypeOpaque, "2025-01-02T03:04:05Z", false, 0},
	} {
		s := &corev1.Secret{Type: c.kind, Data: map[string][]byte{}}
		if c.expiration != "" {
			s.Data[keyExpiration] = []byte(c.expiration)
		}
		if expired, again := decide(s, now); expired != c.expired || again != c.again {
			t.Errorf("%s: expired %v, again in %v", name, expired, again)
		}
	}
}
