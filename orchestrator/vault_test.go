package orchestrator_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/raftstore"
)

func newKey(t *testing.T) raftstore.KeyProvider {
	t.Helper()
	key, err := raftstore.CreateFileKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// once runs a control plane until it is ready, and returns its backup and its CA.
func once(t *testing.T, cfg orchestrator.Config) (backup []byte, kubeconfig string) {
	t.Helper()
	cfg.Address = "127.0.0.1:0"
	o := newOrchestrator(t, cfg)
	defer start(t, o)()
	var b bytes.Buffer
	if err := o.Backup(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	data, err := o.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	_, ca, _ := strings.Cut(string(data), "certificate-authority-data: ")
	ca, _, _ = strings.Cut(ca, "\n")
	return b.Bytes(), ca
}

// refused says how a control plane ends that can't start.
func refused(t *testing.T, cfg orchestrator.Config) error {
	t.Helper()
	err := newOrchestrator(t, cfg).Run(t.Context())
	if err == nil {
		t.Error("it started")
	}
	return err
}

// inClear are the files of a folder, and the name of a backup, that show a private key.
func inClear(t *testing.T, dir string, backup []byte) (files []string) {
	t.Helper()
	shows := func(b []byte) bool {
		return bytes.Contains(b, []byte("PRIVATE KEY")) || bytes.Contains(b, []byte("caKey")) || bytes.Contains(b, []byte("LS0tLS1CRUdJTi")) // "-----BEGIN" in base64
	}
	if shows(backup) {
		files = append(files, "the backup")
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err == nil && shows(b) && filepath.Base(path) != "ca.crt" {
			files = append(files, filepath.Base(path))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheClustersKeysAreSealedAtRest(t *testing.T) {
	key, other := newKey(t), newKey(t)
	cfg := orchestrator.Config{DataDir: t.TempDir(), KeyProvider: key}
	backup, ca := once(t, cfg)
	if files := inClear(t, cfg.DataDir, backup); len(files) > 0 {
		t.Errorf("%v can be read", files)
	}
	if _, again := once(t, cfg); again != ca {
		t.Error("the CA is another after a restart")
	}
	for name, provider := range map[string]raftstore.KeyProvider{"another key": other, "no key": nil} {
		wrong := cfg
		wrong.KeyProvider = provider
		err := refused(t, wrong)
		if !errors.Is(err, raftstore.ErrKey) || !strings.Contains(err.Error(), key.Name()) {
			t.Errorf("%s: %v", name, err)
		}
		restored := orchestrator.Config{DataDir: t.TempDir(), KeyProvider: provider}
		if err := orchestrator.Restore(restored, bytes.NewReader(backup)); !errors.Is(err, raftstore.ErrKey) || !strings.Contains(err.Error(), key.Name()) {
			t.Errorf("a restore with %s: %v", name, err)
		}
	}
	if _, again := once(t, cfg); again != ca {
		t.Error("the CA is another after wrong keys were tried")
	}

	// With the new key first, everything is wrapped anew, and the old one is of no more use.
	changed := cfg
	changed.KeyProvider = raftstore.FirstKey(other, key)
	if _, again := once(t, changed); again != ca {
		t.Error("the CA is another after the key has changed")
	}
	changed.KeyProvider = other
	if _, again := once(t, changed); again != ca {
		t.Error("the CA is another with the new key alone")
	}
	if err := refused(t, cfg); !errors.Is(err, raftstore.ErrKey) {
		t.Errorf("the old key: %v", err)
	}

	restored := orchestrator.Config{DataDir: t.TempDir(), KeyProvider: key}
	if err := orchestrator.Restore(restored, bytes.NewReader(backup)); err != nil {
		t.Fatal(err)
	}
	if files := inClear(t, restored.DataDir, nil); len(files) > 0 {
		t.Errorf("%v of the restored folder can be read", files)
	}
	if _, again := once(t, restored); again != ca {
		t.Error("the restored cluster has another CA")
	}
	bad := bytes.Clone(backup)
	bad[200] ^= 1
	if err := orchestrator.Restore(orchestrator.Config{DataDir: t.TempDir(), KeyProvider: key}, bytes.NewReader(bad)); err == nil {
		t.Error("a changed identity was restored")
	}
}

func TestAFolderAndABackupThatAreNotSealedStillOpen(t *testing.T) {
	key := newKey(t)
	cfg := orchestrator.Config{DataDir: t.TempDir()}
	backup, ca := once(t, cfg)
	if files := inClear(t, cfg.DataDir, backup); len(files) == 0 {
		t.Fatal("this test sees nothing")
	}
	cfg.KeyProvider = key
	if _, again := once(t, cfg); again != ca {
		t.Error("the CA is another once it is sealed")
	}
	if files := inClear(t, cfg.DataDir, nil); len(files) > 0 {
		t.Errorf("%v can still be read", files)
	}
	restored := orchestrator.Config{DataDir: t.TempDir(), KeyProvider: key}
	if err := orchestrator.Restore(restored, bytes.NewReader(backup)); err != nil {
		t.Fatal(err)
	}
	if files := inClear(t, restored.DataDir, nil); len(files) > 0 {
		t.Errorf("%v of the restored folder can be read", files)
	}
	if _, again := once(t, restored); again != ca {
		t.Error("the restored cluster has another CA")
	}
}
