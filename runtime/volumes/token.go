package volumes

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const defaultTokenSeconds = 3600

// token adds a service account token. The one on disk is kept while it is young enough, so that a
// Manager needs no memory of the tokens it got.
func (m *Manager) token(ctx context.Context, files map[string]file, pod *corev1.Pod, src *corev1.ServiceAccountTokenProjection, mode os.FileMode, data string) error {
	seconds := int64(defaultTokenSeconds)
	if src.ExpirationSeconds != nil {
		seconds = *src.ExpirationSeconds
	}
	name := filepath.Clean(src.Path)
	f := file{mode: mode, uid: commonUser(pod)}
	if f.uid != nil || fsGroup(pod) != nil {
		f.mode = 0o600 // only its reader's
	}
	path := filepath.Join(data, name)
	if info, err := os.Stat(path); filepath.IsLocal(name) && err == nil {
		if old, err := os.ReadFile(path); err == nil && !stale(old, info.ModTime(), seconds, m.cfg.Clock()) {
			f.data = old
			files[name] = f
			return nil
		}
	}
	account := pod.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	req := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
		ExpirationSeconds: &seconds,
		BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID},
	}}
	if src.Audience != "" {
		req.Spec.Audiences = []string{src.Audience}
	}
	resp, err := m.cfg.Client.CoreV1().ServiceAccounts(pod.Namespace).CreateToken(ctx, account, req, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("failed to fetch token: %w", err)
	}
	f.data = []byte(resp.Status.Token)
	files[name] = f
	return nil
}

// stale says whether a token is past 80 % of its life, or a day old. A token that tells nothing of
// its times is as old as its file.
func stale(token []byte, written time.Time, seconds int64, now time.Time) bool {
	from, to := written, written.Add(time.Duration(seconds)*time.Second)
	if parts := strings.Split(string(token), "."); len(parts) == 3 {
		var claims struct {
			Issued  int64 `json:"iat"`
			Expires int64 `json:"exp"`
		}
		if raw, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil && json.Unmarshal(raw, &claims) == nil && claims.Expires > 0 {
			to = time.Unix(claims.Expires, 0)
			if claims.Issued > 0 {
				from = time.Unix(claims.Issued, 0)
			}
		}
	}
	life := to.Sub(from)
	return now.After(from.Add(min(life*4/5, 24*time.Hour)))
}

// commonUser is the user that all containers run as, if they do and say so.
func commonUser(pod *corev1.Pod) *int64 {
	var pods *int64
	if sc := pod.Spec.SecurityContext; sc != nil {
		pods = sc.RunAsUser
	}
	var user *int64
	for _, list := range [][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range list {
			u := pods
			if sc := list[i].SecurityContext; sc != nil && sc.RunAsUser != nil {
				u = sc.RunAsUser
			}
			if u == nil || user != nil && *user != *u {
				return nil
			}
			user = u
		}
	}
	return user
}
