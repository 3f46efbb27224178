"""Operations on finished assets: moving, joining, pruning, drawing."""
