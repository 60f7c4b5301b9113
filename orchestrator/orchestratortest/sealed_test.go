package orchestratortest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/raftstore"
)

func TestTheStateIsSealedAndBackedUp(t *testing.T) {
	dir := t.TempDir()
	key, err := raftstore.CreateFileKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	data, backups := filepath.Join(dir, "data"), filepath.Join(dir, "backups")
	const secret = "sesame-opens-the-cave"
	start := func(t *testing.T) *Cluster {
		return Start(t, func(cfg *orchestrator.Config) {
			cfg.DataDir, cfg.KeyProvider = data, key
			cfg.Backups = raftstore.BackupSchedule{Dir: backups}
		})
	}
	t.Run("write", func(t *testing.T) {
		_, err := start(t).Client.CoreV1().Secrets("default").Create(context.Background(), &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Name: "x"}, StringData: map[string]string{"word": secret}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	})
	err = filepath.WalkDir(filepath.Join(data, "store"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(secret)) {
			t.Errorf("the Secret can be read in %s", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("read", func(t *testing.T) {
		s, err := start(t).Client.CoreV1().Secrets("default").Get(context.Background(), "x", metav1.GetOptions{})
		if err != nil || string(s.Data["word"]) != secret {
			t.Fatal(s, err)
		}
		eventually(t, "a backup", func(context.Context) (bool, error) {
			files, err := raftstore.ListBackups(backups, "")
			return len(files) > 0, err
		})
	})
}
