package raftstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// fileCluster holds Config.Cluster, once one was given.
const fileCluster = "CLUSTER"

// belong keeps the cluster's id in the folder, takes it from there where the config names none, and refuses a folder
// of another cluster.
func (c *Config) belong() error {
	path := filepath.Join(c.Dir, fileCluster)
	b, err := os.ReadFile(path)
	known := strings.TrimSuffix(string(b), "\n")
	switch {
	case errors.Is(err, os.ErrNotExist) && c.Cluster == "":
		return nil
	case errors.Is(err, os.ErrNotExist):
		return writeFileSynced(path, []byte(c.Cluster+"\n"))
	case err != nil:
		return err
	case c.Cluster == "":
		c.Cluster = known
	case c.Cluster != known:
		return fmt.Errorf("%w: it is part of the cluster %q, and Config.Cluster says %q: give the folder of this cluster, or an empty one",
			ErrInvalid, known, c.Cluster)
	}
	return nil
}

// foreign says why a member with that status is not of this cluster; nil if it is, or if one of the two does not say.
func (s *Store) foreign(st *memberStatus) error {
	if st.cluster == "" || s.cfg.Cluster == "" || st.cluster == s.cfg.Cluster {
		return nil
	}
	return fmt.Errorf("%w: %q is part of the cluster %q, and this is %q: start it with Join and a new folder",
		ErrInvalid, st.id, st.cluster, s.cfg.Cluster)
}

// foreignAt says so of the member at an address. One that does not answer is taken for ours.
func (s *Store) foreignAt(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, healthWait)
	defer cancel()
	out, err := s.c.peers.call(ctx, address, callStatus, nil)
	if err != nil {
		return nil
	}
	st, err := decodeMemberStatus(out)
	if err != nil {
		return nil
	}
	return s.foreign(&st)
}
