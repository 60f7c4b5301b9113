package orchestrator

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/pintle/pintle/internal/pki"
	"github.com/pintle/pintle/raftstore"
)

// A backup is a magic line, the length (4 bytes, big endian) and the SHA-256 of an identity in JSON, the
// identity, and then the store's own backup, which has its own checksum.
const backupMagic = "pintle control plane backup 1\n"

// storeBackup begins what the store writes, and so what Config.Backups makes.
const storeBackup = "pintle raftstore backup "

// maxIdentity is far more than an identity takes: a length beyond it is damage.
const maxIdentity = 1 << 20

// backupIdentity is what makes the restored cluster the same one for kubeconfigs, tokens and nodes.
type backupIdentity struct {
	CACert            []byte `json:"caCert"`
	CAKey             []byte `json:"caKey"`
	ServiceAccountKey []byte `json:"serviceAccountKey"`
}

// Backup writes everything that Restore needs, consistent at one revision, while requests and writes
// go on. It holds the cluster's Secrets and the key of its CA: keep it as you keep those. What it wrote is
// worth nothing unless it returns nil. It is an error before Ready and after Run has ended.
func (o *Orchestrator) Backup(ctx context.Context, w io.Writer) error {
	p := o.running()
	if p == nil {
		return errors.New("orchestrator: backup: the control plane doesn't run: wait for Ready")
	}
	identity := p.identity
	key, err := pki.MarshalKey(identity.key)
	if err != nil {
		return fmt.Errorf("orchestrator: backup: %w", err)
	}
	data, err := json.Marshal(backupIdentity{CACert: identity.ca.CertPEM(), CAKey: identity.ca.KeyPEM(), ServiceAccountKey: key})
	if err != nil {
		return fmt.Errorf("orchestrator: backup: %w", err)
	}
	sum := sha256.Sum256(data)
	head := binary.BigEndian.AppendUint32([]byte(backupMagic), uint32(len(data)))
	for _, part := range [][]byte{head, sum[:], data} {
		if _, err := w.Write(part); err != nil {
			return fmt.Errorf("orchestrator: backup: %w", err)
		}
	}
	if err := p.store.Backup(ctx, w); err != nil {
		return fmt.Errorf("orchestrator: %w", err)
	}
	return nil
}

// Restore fills Config.DataDir, which must hold no cluster, from what Backup wrote; New and Run then start
// it, as a cluster of one member, Config.Member. Kubeconfigs, tokens and nodes' certificates of the old
// cluster are good for the new one. Revisions go on far above the backup's, so that informers list anew
// instead of going back in time. A backup of Config.Backups holds the stored state alone: DataDir must then
// hold the cluster's folder pki. A sealed backup needs Config.KeyProvider. A folder whose Restore didn't
// return nil holds no cluster: restore again.
func Restore(cfg Config, r io.Reader) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return err
	}
	if cfg.DataDir == "" {
		return errors.New("orchestrator: restore: Config.DataDir is empty: say where the cluster shall live")
	}
	store := filepath.Join(cfg.DataDir, "store")
	if _, err := os.Stat(store); err == nil {
		return fmt.Errorf("orchestrator: restore: %s holds a cluster: give an empty folder", cfg.DataDir)
	}
	in := bufio.NewReader(r)
	if err := restoreIdentity(cfg, in); err != nil {
		return fmt.Errorf("orchestrator: restore: %w", err)
	}
	old, _, err := readMembership(cfg.DataDir)
	if err != nil {
		return err
	}
	m := membership{Member: cmp.Or(cfg.Member, old.Member, soleMember), Cluster: cfg.Name, ServiceCIDR: cfg.ServiceCIDR}
	if err := writeMembership(cfg.DataDir, m); err != nil {
		return err
	}
	// The store comes last, and comes whole or not at all.
	if err := raftstore.Restore(raftstore.Config{Dir: store, NodeID: m.Member, KeyProvider: cfg.KeyProvider,
		Logger: cfg.Logger.With("part", "store"), Clock: cfg.Clock}, in); err != nil {
		return fmt.Errorf("orchestrator: %w", errors.Join(err, os.RemoveAll(store)))
	}
	return nil
}

// restoreIdentity reads the identity and keeps it in the folder. What Config.Backups makes holds the store
// alone: it belongs to the identity that the folder has.
func restoreIdentity(cfg Config, r *bufio.Reader) error {
	dir := filepath.Join(cfg.DataDir, "pki")
	if start, _ := r.Peek(len(storeBackup)); string(start) == storeBackup {
		if _, err := os.Stat(filepath.Join(dir, "ca.key")); err != nil {
			return fmt.Errorf("this is a backup of the store alone, and %s does not hold the cluster's keys: bring the folder pki back there first: %w", cfg.DataDir, err)
		}
		return nil
	}
	identity, err := readBackupIdentity(r, cfg)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, file := range []struct {
		name string
		data []byte
		mode os.FileMode
	}{
		{"ca.key", identity.CAKey, 0o600}, {"ca.crt", identity.CACert, 0o644}, {"service-account.key", identity.ServiceAccountKey, 0o600},
	} {
		if err := pki.WriteFile(filepath.Join(dir, file.name), file.data, file.mode); err != nil {
			return err
		}
	}
	return nil
}

func readBackupIdentity(r io.Reader, cfg Config) (*backupIdentity, error) {
	head := make([]byte, len(backupMagic)+4+sha256.Size)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("read the beginning: %w", err)
	}
	if string(head[:len(backupMagic)]) != backupMagic {
		return nil, errors.New("this is no backup of a control plane, or one of another version")
	}
	length := binary.BigEndian.Uint32(head[len(backupMagic):])
	if length > maxIdentity {
		return nil, errors.New("the backup is damaged: its identity is too long")
	}
	data := make([]byte, length)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	if sha256.Sum256(data) != [sha256.Size]byte(head[len(backupMagic)+4:]) {
		return nil, errors.New("the backup is damaged: its identity's checksum is wrong")
	}
	var identity backupIdentity
	if err := json.Unmarshal(data, &identity); err != nil {
		return nil, fmt.Errorf("read the identity: %w", err)
	}
	if _, err := pki.ParseCA(identity.CACert, identity.CAKey, cfg.Clock); err != nil {
		return nil, err
	}
	if _, err := pki.ParseKey(identity.ServiceAccountKey); err != nil {
		return nil, fmt.Errorf("the service account key: %w", err)
	}
	return &identity, nil
}
