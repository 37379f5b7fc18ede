"""Files of models, from anywhere: ARPA, or KenLM's binary form, told apart by how they begin."""

from raypt import storage
from raypt.curation.outside_file import sha256_of
from raypt.curation.perplexity import kenlm_file
from raypt.curation.perplexity.arpa import MalformedArpa, check_head
from raypt.curation.perplexity.config import Perplexity
from raypt.curation.perplexity.kenlm_model import KenlmModel
from raypt.curation.perplexity.model import NGramModel
from raypt.errors import UserError


def is_kenlm(uri: str) -> bool:
    """Whether a file is one of KenLM's. Raises FileNotFoundError."""
    with storage.open_read(uri) as f:
        return bool(f.read(len(kenlm_file.SIGNATURE)) == kenlm_file.SIGNATURE)


def load(uri: str, key: str, sha256: str | None = None) -> NGramModel | KenlmModel:
    """The model of a file. `key`: the configuration key that named it; `sha256`: of the file that the run started with.

    Raises:
        UserError: it is not there, is another one, or no model.
    """
    try:
        if sha256 is not None and (found := sha256_of(uri)) != sha256:
            raise UserError(
                f"{key}: {uri} is not the file that this run started with (sha256 {found[:12]}, expected {sha256[:12]})"
            )
        return KenlmModel.load(uri, key) if is_kenlm(uri) else NGramModel.load(uri)
    except FileNotFoundError:
        raise UserError(f"{key}: no file {uri}") from None
    except MalformedArpa as e:
        raise UserError(f"{key}: {uri} is no ARPA file: {e}") from None


def look(settings: Perplexity) -> dict[str, str]:
    """sha256 by language of the files that the settings name. KenLM's are looked at and tried; of ARPA files
    the head is read, and the rest by the workers, which refuse it then.

    Raises:
        UserError: one line a mistake.
    """
    found, problems = {}, []
    for name, named in sorted(settings.models.items()):
        key, uri = f"curation.perplexity.models.{name}", storage.absolute(named)
        try:
            found[name] = sha256_of(uri)
            wanted = settings.models_sha256.get(name, found[name]).lower()
            if found[name] != wanted:
                raise UserError(
                    f"{key}: {named} is not the file that curation.perplexity.models_sha256.{name} names (sha256 "
                    f"{found[name][:12]}, expected {wanted[:12]})"
                )
            if is_kenlm(uri):
                KenlmModel.load(uri, key)
            else:
                check_head(uri)
        except FileNotFoundError:
            problems.append(f"{key}: no file {named}")
        except MalformedArpa as e:
            problems.append(f"{key}: {named} is no ARPA file: {e}")
        except UserError as e:
            problems.append(str(e))
    if problems:
        raise UserError("\n".join(problems))
    return found
