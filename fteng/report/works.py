"""The works that the methods of a study rest on: how a text names them, and their BibTeX."""

# Key -> (author and year in the text, the BibTeX type, the entry's fields).
_WORKS: dict[str, tuple[str, str, str]] = {
    "kumar2022": (
        "Kumar et al. 2022",
        "inproceedings",
        "author={Kumar, Ananya and Raghunathan, Aditi and Jones, Robbie and Ma, Tengyu and Liang, Percy},"
        " title={Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution},"
        " booktitle={International Conference on Learning Representations}, year={2022}",
    ),
    "davison1997": (
        "Davison and Hinkley 1997",
        "book",
        "author={Davison, A. C. and Hinkley, D. V.}, title={Bootstrap Methods and their Application},"
        " publisher={Cambridge University Press}, year={1997}",
    ),
    "field2007": (
        "Field and Welsh 2007",
        "article",
        "author={Field, C. A. and Welsh, A. H.}, title={Bootstrapping clustered data},"
        " journal={Journal of the Royal Statistical Society: Series B}, volume={69}, number={3}, pages={369--390}, year={2007}",
    ),
    "piaggio2012": (
        "Piaggio et al. 2012",
        "article",
        "author={Piaggio, Gilda and Elbourne, Diana R. and Pocock, Stuart J. and Evans, Stephen J. W. and Altman, Douglas G.},"
        " title={Reporting of Noninferiority and Equivalence Randomized Trials: Extension of the CONSORT 2010 Statement},"
        " journal={JAMA}, volume={308}, number={24}, pages={2594--2604}, year={2012}",
    ),
    "dunnett1955": (
        "Dunnett 1955",
        "article",
        "author={Dunnett, Charles W.}, title={A Multiple Comparison Procedure for Comparing Several Treatments with a Control},"
        " journal={Journal of the American Statistical Association}, volume={50}, number={272}, pages={1096--1121}, year={1955}",
    ),
    "holm1979": (
        "Holm 1979",
        "article",
        "author={Holm, Sture}, title={A Simple Sequentially Rejective Multiple Test Procedure},"
        " journal={Scandinavian Journal of Statistics}, volume={6}, number={2}, pages={65--70}, year={1979}",
    ),
    "guo2017": (
        "Guo et al. 2017",
        "inproceedings",
        "author={Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.}, title={On Calibration of Modern Neural"
        " Networks}, booktitle={International Conference on Machine Learning}, year={2017}",
    ),
    "fawcett2006": (
        "Fawcett 2006",
        "article",
        "author={Fawcett, Tom}, title={An introduction to ROC analysis}, journal={Pattern Recognition Letters}, volume={27},"
        " number={8}, pages={861--874}, year={2006}",
    ),
    "loshchilov2019": (
        "Loshchilov and Hutter 2019",
        "inproceedings",
        "author={Loshchilov, Ilya and Hutter, Frank}, title={Decoupled Weight Decay Regularization},"
        " booktitle={International Conference on Learning Representations}, year={2019}",
    ),
    "zhou2016": (
        "Zhou et al. 2016",
        "inproceedings",
        "author={Zhou, Bolei and Khosla, Aditya and Lapedriza, Agata and Oliva, Aude and Torralba, Antonio}, title={Learning Deep"
        " Features for Discriminative Localization}, booktitle={IEEE Conference on Computer Vision and Pattern Recognition},"
        " year={2016}",
    ),
    "selvaraju2017": (
        "Selvaraju et al. 2017",
        "inproceedings",
        "author={Selvaraju, Ramprasaath R. and Cogswell, Michael and Das, Abhishek and Vedantam, Ramakrishna and Parikh, Devi and"
        " Batra, Dhruv}, title={Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization},"
        " booktitle={IEEE International Conference on Computer Vision}, year={2017}",
    ),
    "shrikumar2017": (
        "Shrikumar et al. 2017",
        "inproceedings",
        "author={Shrikumar, Avanti and Greenside, Peyton and Kundaje, Anshul}, title={Learning Important Features Through"
        " Propagating Activation Differences}, booktitle={International Conference on Machine Learning}, year={2017}",
    ),
    "kornblith2019": (
        "Kornblith et al. 2019",
        "inproceedings",
        "author={Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, Geoffrey}, title={Similarity of Neural Network"
        " Representations Revisited}, booktitle={International Conference on Machine Learning}, year={2019}",
    ),
}


class Cited(dict[str, None]):
    """Works in the order in which a text names them."""

    def __call__(self, *keys: str) -> str:
        """In parentheses, as they stand in the text."""
        self.update(dict.fromkeys(keys))
        return f"({'; '.join(_WORKS[key][0] for key in keys)})"

    def bibtex(self) -> str:
        """An entry each."""
        entries = [f"@{_WORKS[key][1]}{{{key},\n  " + _WORKS[key][2].replace("}, ", "},\n  ") + "\n}" for key in self]
        return "\n\n".join(entries)
