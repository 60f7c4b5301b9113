package orchestrator_test

import (
	"bytes"
	"cmp"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pintle/pintle/orchestrator"
	"github.com/pintle/pintle/raftstore"
)

func TestARestoredClusterIsTheSameCluster(t *testing.T) {
	var backup bytes.Buffer
	old := newOrchestrator(t, orchestrator.Config{DataDir: t.TempDir(), Address: "127.0.0.1:0"})
	if err := old.Backup(t.Context(), &backup); err == nil || !strings.Contains(err.Error(), "wait for Ready") {
		t.Errorf("a backup before Run: %v", err)
	}
	stop := start(t, old)
	client, err := kubernetes.NewForConfig(old.RESTConfig())
	if err != nil {
		t.Fatal(err)
	}
	kept, err := client.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "kept"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	backup.Reset()
	if err := old.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := old.Kubeconfig()
	if err != nil {
		t.Fatal(err)
	}
	address := old.Addr().String()
	stop()
	if err := old.Backup(t.Context(), &bytes.Buffer{}); err == nil {
		t.Error("a control plane that has ended was backed up")
	}

	cfg := orchestrator.Config{DataDir: t.TempDir(), Address: address}
	if err := orchestrator.Restore(cfg, bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	defer start(t, newOrchestrator(t, cfg))()
	// The kubeconfig of before is good: the CA is the same, and believes the same certificates.
	rest, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if client, err = kubernetes.NewForConfig(rest); err != nil {
		t.Fatal(err)
	}
	got, err := client.CoreV1().ConfigMaps("default").Get(t.Context(), "kept", metav1.GetOptions{})
	if err != nil || got.UID != kept.UID {
		t.Errorf("got %v, %v", got, err)
	}
	if err := orchestrator.Restore(cfg, bytes.NewReader(backup.Bytes())); err == nil || !strings.Contains(err.Error(), "holds a cluster") {
		t.Errorf("a second restore: %v", err)
	}
}

func TestADamagedBackupRestoresNothing(t *testing.T) {
	var backup bytes.Buffer
	o := newOrchestrator(t, orchestrator.Config{})
	stop := start(t, o)
	if err := o.Backup(t.Context(), &backup); err != nil {
		t.Fatal(err)
	}
	stop()
	whole := backup.Bytes()
	for what, damaged := range map[string][]byte{
		"nothing":            nil,
		"another file":       []byte(strings.Repeat("no backup ", 100)),
		"a changed identity": flipped(whole, 200),
		"a changed object":   flipped(whole, len(whole)-100),
		"a lost end":         whole[:len(whole)-1],
	} {
		cfg := orchestrator.Config{DataDir: t.TempDir()}
		if err := orchestrator.Restore(cfg, bytes.NewReader(damaged)); err == nil {
			t.Errorf("%s was restored", what)
		}
		if _, err := os.Stat(filepath.Join(cfg.DataDir, "store")); !os.IsNotExist(err) {
			t.Errorf("%s left a store: %v", what, err)
		}
	}
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

func TestASealedClusterIsRestoredFromEitherBackup(t *testing.T) {
	key, err := raftstore.CreateFileKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	scheduled := t.TempDir()
	cfg := orchestrator.Config{DataDir: t.TempDir(), Member: "box-1", KeyProvider: key, Backups: raftstore.BackupSchedule{Dir: scheduled}}
	old := newOrchestrator(t, cfg)
	stop := start(t, old)
	store := firstBackup(t, scheduled)
	var own bytes.Buffer
	if err := old.Backup(t.Context(), &own); err != nil {
		t.Fatal(err)
	}
	stop()

	unkeyed := orchestrator.Config{DataDir: t.TempDir()}
	if err := orchestrator.Restore(unkeyed, bytes.NewReader(own.Bytes())); !errors.Is(err, raftstore.ErrKey) {
		t.Errorf("without the key: %v", err)
	}
	pki := filepath.Join(cfg.DataDir, "pki")
	cfg.Backups = raftstore.BackupSchedule{}
	for name, c := range map[string]struct {
		backup []byte
		keys   bool // the folder pki is brought back beforehand
		member string
	}{
		"the cluster's": {own.Bytes(), false, "box-2"},
		"the store's":   {store, true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := cfg
			cfg.DataDir, cfg.Member = t.TempDir(), c.member
			if c.keys {
				if err := orchestrator.Restore(cfg, bytes.NewReader(c.backup)); err == nil || !strings.Contains(err.Error(), "folder pki") {
					t.Errorf("without the cluster's keys: %v", err)
				}
				if err := os.CopyFS(filepath.Join(cfg.DataDir, "pki"), os.DirFS(pki)); err != nil {
					t.Fatal(err)
				}
			}
			if err := orchestrator.Restore(cfg, bytes.NewReader(c.backup)); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(filepath.Join(cfg.DataDir, "member.json"))
			if want := cmp.Or(c.member, "single"); err != nil || !strings.Contains(string(data), `"`+want+`"`) {
				t.Errorf("it is member %s, %v; want %s", data, err, want)
			}
			o := newOrchestrator(t, cfg)
			defer start(t, o)()
			client, err := kubernetes.NewForConfig(o.RESTConfig())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.CoreV1().Namespaces().Get(t.Context(), "kube-system", metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARestoreTakesNameAndServicesFromTheBackup(t *testing.T) {
	scheduled := t.TempDir()
	services := netip.MustParsePrefix("10.44.0.0/20")
	old := orchestrator.Config{Name: "plant", DataDir: t.TempDir(), ServiceCIDR: services, Backups: raftstore.BackupSchedule{Dir: scheduled}}
	o := newOrchestrator(t, old)
	stop := start(t, o)
	var own bytes.Buffer
	if err := o.Backup(t.Context(), &own); err != nil {
		t.Fatal(err)
	}
	store := firstBackup(t, scheduled)
	stop()
	for name, c := range map[string]struct {
		backup []byte
		keys   bool // the folder pki is brought back beforehand
	}{"the cluster's": {own.Bytes(), false}, "the store's": {store, true}} {
		t.Run(name, func(t *testing.T) {
			cfg := orchestrator.Config{DataDir: t.TempDir()}
			if c.keys {
				if err := os.CopyFS(filepath.Join(cfg.DataDir, "pki"), os.DirFS(filepath.Join(old.DataDir, "pki"))); err != nil {
					t.Fatal(err)
				}
			} else {
				other := cfg
				other.ServiceCIDR = netip.MustParsePrefix("10.45.0.0/20")
				if err := orchestrator.Restore(other, bytes.NewReader(c.backup)); err == nil || !strings.Contains(err.Error(), services.String()) {
					t.Errorf("with another range: %v", err)
				}
			}
			if err := orchestrator.Restore(cfg, bytes.NewReader(c.backup)); err != nil {
				t.Fatal(err)
			}
			if kept, err := orchestrator.KeptServiceCIDR(cfg.DataDir); err != nil || kept != services {
				t.Errorf("the folder says %v, %v", kept, err)
			}
			o := newOrchestrator(t, cfg)
			defer start(t, o)()
			if o.ServiceCIDR() != services || o.ClusterName() != "plant" {
				t.Errorf("%s has its Services in %s", o.ClusterName(), o.ServiceCIDR())
			}
			client, err := kubernetes.NewForConfig(o.RESTConfig())
			if err != nil {
				t.Fatal(err)
			}
			s, err := client.CoreV1().Services("default").Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "x"},
				Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if ip := netip.MustParseAddr(s.Spec.ClusterIP); !services.Contains(ip) {
				t.Errorf("a new Service is at %s", ip)
			}
		})
	}
}

func firstBackup(t *testing.T, dir string) []byte {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		files, err := raftstore.ListBackups(dir, "")
		if err != nil || time.Now().After(deadline) {
			t.Fatal("no backup was made", err)
		}
		if len(files) > 0 {
			data, err := os.ReadFile(files[0].Path)
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
	}
}
